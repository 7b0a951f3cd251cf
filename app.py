"""Open the CXR PEFT Explorer in a browser. For research and education, not for clinical use."""

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    """Serve the explorer until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, help="folder of runs and caches")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860, help="port, or the next free one")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--slots", type=int, default=1, help="runs at the same time per device")
    parser.add_argument("--resume-lost", action="store_true", help="resume runs that died")
    parser.add_argument("--store", help="store runs in postgresql+psycopg://user@host/name")
    given = parser.parse_args()

    from core.startup import relax_garbage_collection

    relax_garbage_collection()  # before the libraries are loaded
    from core.errors import CoreError
    from core.workspace import STORE, open_workspace
    from explorer.app import serve

    os.environ.update({STORE: given.store} if given.store else {})  # also for the runs' processes
    try:
        serve(open_workspace(given.workspace), host=given.host, port=given.port, slots=given.slots,
              browser=not given.no_browser, resume_lost=given.resume_lost)  # fmt: skip
    except CoreError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
