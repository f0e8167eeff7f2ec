"""What a person can mend, as one line on stderr."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """What a person can mend: one line that names the file, the key and the remedy."""


def cli(main: Callable[[], None]) -> None:
    """Run a script's main; a UserError becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
