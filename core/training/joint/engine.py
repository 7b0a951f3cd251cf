"""Computes the forward and backward passes of all members of a joint training together.

Each member runs the ordinary training loop, unchanged, in a thread of its own. When it needs logits
or gradients, its thread waits here until every other member that is still training needs something
as well; one forward or backward pass then serves all of them.
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
from core.training.joint.stacked_model import StackedModel
from core.training.session import Session

SHARED_BATCHES = 4
"""Validation batches that are kept for members that have not requested them yet."""

End = Callable[[], dict[str, Any]]
"""Outcome of a member: returns its result, or raises the error that ended it."""


@dataclass
class Request:
    """What a member waits for: logits of inputs (train, predict) or gradients of a loss (backward).

    Attributes:
        member: Number of the member.
        kind: ``train``, ``predict`` or ``backward``.
        tensor: The inputs or the loss.
        seed: Seed of the training step, for dropout and stochastic depth.
        answer: The logits or the loss, set when the request is done.
        error: The error of the pass, raised in the member's thread.
        done: Set when answer or error are set.
    """

    member: int
    kind: str
    tensor: Tensor
    seed: int = 0
    answer: Tensor | None = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Computes for all members in the thread that calls ``serve``.

    Args:
        sessions: The members' sessions; their model, inputs and backward pass are replaced by
            requests to this engine.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._stacked = StackedModel([session.model for session in sessions])
        self._shared = SharedInputs(_pixel_inputs(sessions[0]))
        self._changed = threading.Condition()
        self._waiting: dict[int, Request] = {}
        self._working = set(range(len(sessions)))
        self._ends: list[tuple[int, End]] = []
        self._abandoned = False
        for number, session in enumerate(sessions):
            session.parallel = _MemberModel(self, number, session)
            session.inputs = MemberInputs(_pixel_inputs(session), self._shared)
            session.accelerator.backward = self._backward_of(number)
            # The fused optimizer kernel reads memory in order, but some members' parameters are
            # transposed views of the stacked ones.
            for group in session.optimizer.param_groups:
                group["fused"] = False

    def request(self, request: Request) -> Tensor:
        """Wait for the answer to a request; called by a member's thread."""
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

    def finish(self, member: int, end: End) -> None:
        """Report that a member's thread has ended."""
        with self._changed:
            self._working.discard(member)
            self._ends.append((member, end))
            self._changed.notify_all()

    def serve(self) -> Iterator[tuple[int, End]]:
        """Compute until all members have ended; yields each member that ends."""
        try:
            while self._working or self._ends:
                with self._changed:
                    # The time-out lets Python handle signals, which a wait without one blocks.
                    self._changed.wait_for(self._something_to_do, timeout=1.0)
                    ends, self._ends = self._ends, []
                    # A pass starts only when every member waits, so that it serves all of them.
                    ready = self._working and self._working <= self._waiting.keys()
                    requests = [self._waiting[n] for n in sorted(self._waiting)] if ready else []
                    if ready:
                        self._waiting = {}
                yield from ends
                # Members may be in different phases: one trains while another validates.
                for kind in ("train", "predict", "backward"):
                    self._answer(kind, [one for one in requests if one.kind == kind])
        finally:
            self._abandon()

    def _something_to_do(self) -> bool:
        return bool(self._ends) or self._working <= self._waiting.keys()

    def _abandon(self) -> None:
        """End the threads that wait for an answer, when nobody serves them any more."""
        with self._changed:
            self._abandoned = True
            left, self._waiting = list(self._waiting.values()), {}
        for request in left:
            request.error = KeyboardInterrupt()
            request.done.set()

    def _answer(self, kind: str, requests: Sequence[Request]) -> None:
        if not requests:
            return
        try:
            if kind == "backward":
                self._backward(requests)
            else:
                self._forward(requests, training=kind == "train")
        except Exception as error:  # such as exhausted memory: every member fails with it
            for request in requests:
                request.error = error
        for request in requests:
            request.done.set()

    def _forward(self, requests: Sequence[Request], training: bool) -> None:
        stacked, accelerator = self._stacked, self._sessions[0].accelerator
        counts = [len(request.tensor) for request in requests]
        stacked.rows.set([request.member for request in requests], counts, accelerator.device)
        if stacked.model.training != training:
            stacked.model.train(training)
        if training and stacked.random:
            stacked.rows.seed([request.seed for request in requests])
        with torch.inference_mode(not training), accelerator.autocast():
            inputs = torch.cat([request.tensor for request in requests])
            logits = stacked.model(self._shared.pixels(inputs)).float()
        for request, part in zip(requests, logits.split(counts), strict=True):
            request.answer = part

    def _backward(self, requests: Sequence[Request]) -> None:
        self._stacked.backward([request.tensor for request in requests])
        # The stacked gradients also have slices, all zero, for members that are not in this batch.
        self._stacked.assign_gradients([request.member for request in requests])
        for request in requests:
            request.answer = request.tensor

    def _backward_of(self, member: int) -> Callable[[Tensor], None]:
        def backward(loss: Tensor) -> None:
            self.request(Request(member, "backward", loss))

        return backward


class SharedInputs:
    """Validation batches, loaded once for all members that request the same studies."""

    def __init__(self, inputs: PixelInputs) -> None:
        self._inputs = inputs
        self._loaded: dict[tuple[str, ...], Tensor] = {}
        self._lock = threading.Lock()

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Inputs of shape (studies, …) on the host, without augmentation."""
        key = tuple(ids)
        with self._lock:
            if key not in self._loaded:
                while len(self._loaded) >= SHARED_BATCHES:
                    del self._loaded[next(iter(self._loaded))]
                self._loaded[key] = self._inputs.evaluation(ids)
            return self._loaded[key]

    def pixels(self, inputs: Tensor) -> Tensor:
        """The model's input for inputs on its device."""
        return self._inputs.pixels(inputs)


class MemberInputs:
    """A member's input source: training batches of its own, shared validation batches."""

    def __init__(self, own: PixelInputs, shared: SharedInputs) -> None:
        self._own, self._shared = own, shared

    def training(
        self, ids: Sequence[str], generator: torch.Generator, part: slice = WHOLE, epoch: int = 0
    ) -> Tensor:
        """Inputs of shape (studies, …) on the host, augmented with this generator only."""
        return self._own.training(ids, generator, part, epoch)

    def evaluation(self, ids: Sequence[str]) -> Tensor:
        """Inputs of shape (studies, …) on the host, without augmentation."""
        return self._shared.evaluation(ids)

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits of shape (studies, findings); the engine normalises the inputs of all members."""
        logits: Tensor = model(inputs)
        return logits


class _MemberModel(nn.Module):
    """Takes the place of a member's model in its training loop; forwards to the engine."""

    def __init__(self, engine: Engine, number: int, session: Session) -> None:
        super().__init__()
        self._engine, self._number, self._session = engine, number, session

    def forward(self, inputs: Tensor) -> Tensor:
        position, seed = self._session.position, self._session.spec.train.seed
        kind = "train" if self.training else "predict"
        drawn = step_seed(seed, position.epoch, position.batch)
        return self._engine.request(Request(self._number, kind, inputs, drawn))


def _pixel_inputs(session: Session) -> PixelInputs:
    """A session's images without cached features: the members' networks run as a whole."""
    inputs = session.inputs
    pixels = inputs.pixels if isinstance(inputs, CachedFeatures) else inputs
    assert isinstance(pixels, PixelInputs)
    return pixels
