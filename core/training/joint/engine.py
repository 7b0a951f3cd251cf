"""Where the members of a group meet: each trains in a thread of its own, all compute together.

A member's thread runs the one training loop, unchanged. When it wants logits or gradients it waits
here until every other member that is still at work wants something too; then one forward or
backward pass serves all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.training.batches import WHOLE, step_seed
from core.training.cached_features import CachedFeatures
from core.training.inputs import PixelInputs
from core.training.joint.stacked_model import Stacked
from core.training.session import Session

KEPT = 4
"""Validation batches that are kept for the members that have not asked for them yet."""

End = Callable[[], dict[str, Any]]
"""What became of a member: gives its result, or raises what ended it."""


@dataclass
class Request:
    """What a member waits for: logits of ``inputs``, or the gradients of ``loss``."""

    member: int
    kind: str
    tensor: Tensor
    seed: int = 0
    answer: Tensor | None = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Computes for all members at once, in the thread that calls ``serve``.

    Args:
        sessions: The members' sessions; they are changed so that they ask here.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._stacked = Stacked([session.model for session in sessions])
        self._feed = SharedFeed(_pixels(sessions[0]))
        self._changed = threading.Condition()
        self._waiting: dict[int, Request] = {}
        self._working = set(range(len(sessions)))
        self._ends: list[tuple[int, End]] = []
        self._abandoned = False
        for number, session in enumerate(sessions):
            session.parallel = _Member(self, number, session)
            session.inputs = self._feed.of(_pixels(session))
            session.accelerator.backward = self._backward_of(number)
            # The fused kernel takes memory as it lies; some members' weights lie transposed.
            for group in session.optimizer.param_groups:
                group["fused"] = False

    def ask(self, request: Request) -> Tensor:
        """Wait for an answer; called by a member's thread."""
        with self._changed:
            if self._abandoned:
                raise KeyboardInterrupt
            self._waiting[request.member] = request
            self._changed.notify_all()
        request.done.wait()
        if request.error is not None:
            raise request.error
        assert request.answer is not None
        return request.answer

    def leave(self, member: int, end: End) -> None:
        """Say that a member's thread has come to its end."""
        with self._changed:
            self._working.discard(member)
            self._ends.append((member, end))
            self._changed.notify_all()

    def serve(self) -> Iterator[tuple[int, End]]:
        """Compute until all members have ended, and tell of each that has."""
        try:
            while self._working or self._ends:
                with self._changed:
                    # Not for ever: a signal is only heard between two waits.
                    self._changed.wait_for(self._something_to_do, timeout=1.0)
                    ends, self._ends = self._ends, []
                    ready = self._working and self._working <= self._waiting.keys()
                    asked = [self._waiting[one] for one in sorted(self._waiting)] if ready else []
                    if ready:
                        self._waiting = {}
                yield from ends
                for kind in ("train", "predict", "backward"):
                    self._carry_out(kind, [one for one in asked if one.kind == kind])
        finally:
            self._abandon()

    def _something_to_do(self) -> bool:
        return bool(self._ends) or self._working <= self._waiting.keys()

    def _abandon(self) -> None:
        """Let no thread wait for an answer that will not come."""
        with self._changed:
            self._abandoned = True
            left, self._waiting = list(self._waiting.values()), {}
        for one in left:
            one.error = KeyboardInterrupt()
            one.done.set()

    def _carry_out(self, kind: str, requests: Sequence[Request]) -> None:
        if not requests:
            return
        try:
            if kind == "backward":
                self._backward(requests)
            else:
                self._forward(requests, training=kind == "train")
        except Exception as error:  # such as a lack of memory: each member says so for itself
            for one in requests:
                one.error = error
        for one in requests:
            one.done.set()

    def _forward(self, requests: Sequence[Request], training: bool) -> None:
        stacked, accelerator = self._stacked, self._sessions[0].accelerator
        counts = [len(one.tensor) for one in requests]
        stacked.rows.set([one.member for one in requests], counts, accelerator.device)
        if stacked.model.training != training:
            stacked.model.train(training)
        if training and stacked.draws:
            stacked.rows.seed([one.seed for one in requests])
        with torch.inference_mode(not training), accelerator.autocast():
            inputs = torch.cat([one.tensor for one in requests])
            logits = stacked.model(self._feed.pixels(inputs)).float()
        for one, part in zip(requests, logits.split(counts), strict=True):
            one.answer = part

    def _backward(self, requests: Sequence[Request]) -> None:
        self._stacked.backward([one.tensor for one in requests])
        self._stacked.give([one.member for one in requests])
        for one in requests:
            one.answer = one.tensor

    def _backward_of(self, member: int) -> Callable[[Tensor], None]:
        def backward(loss: Tensor) -> None:
            self.ask(Request(member, "backward", loss))

        return backward


class SharedFeed:
    """Validation batches made once for all members that ask for the same studies.

    Args:
        feed: Makes them.
    """

    def __init__(self, feed: PixelInputs) -> None:
        self._feed = feed
        self._made: dict[tuple[str, ...], Tensor] = {}
        self._lock = threading.Lock()

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Inputs of shape (studies, …) on the host, without augmentation."""
        key = tuple(ids)
        with self._lock:
            if key not in self._made:
                while len(self._made) >= KEPT:
                    del self._made[next(iter(self._made))]
                self._made[key] = self._feed.evaluation(ids)
            return self._made[key]

    def pixels(self, inputs: Tensor) -> Tensor:
        """What the model takes, of inputs on its device."""
        return self._feed.pixels(inputs)

    def of(self, own: PixelInputs) -> MemberFeed:
        """A member's feed, with training batches of its own."""
        return MemberFeed(own, self)


class MemberFeed:
    """A member's own training batches, and validation batches that all share."""

    def __init__(self, own: PixelInputs, shared: SharedFeed) -> None:
        self._own, self._shared = own, shared

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE, epoch: int = 0
    ) -> Tensor:
        """Inputs of shape (studies, …) on the host, augmented by this generator alone."""
        return self._own.training(ids, generator, part, epoch)

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Inputs of shape (studies, …) on the host, without augmentation."""
        return self._shared.evaluation(ids)

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits of shape (studies, findings); the engine normalises all members' at once."""
        logits: Tensor = model(inputs)
        return logits


class _Member(nn.Module):
    """Stands for a member's model in its own training loop."""

    def __init__(self, engine: Engine, number: int, session: Session) -> None:
        super().__init__()
        self._engine, self._number, self._session = engine, number, session

    def forward(self, inputs: Tensor) -> Tensor:
        position, seed = self._session.position, self._session.spec.train.seed
        kind = "train" if self.training else "predict"
        drawn = step_seed(seed, position.epoch, position.batch)
        return self._engine.ask(Request(self._number, kind, inputs, drawn))


def _pixels(session: Session) -> PixelInputs:
    """Whole pictures, for which all members' networks run as one."""
    feed = session.inputs.pixels if isinstance(session.inputs, CachedFeatures) else session.inputs
    assert isinstance(feed, PixelInputs)
    return feed
