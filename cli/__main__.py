"""`python -m r1_sharevl.cli`, the form that `accelerate launch -m` needs."""

from . import main

if __name__ == "__main__":
    main()
