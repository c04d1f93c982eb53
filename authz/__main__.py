"""`python -m authz`: the `authz` command where no script is installed. It decides nothing itself."""

from authz.cli import main

if __name__ == "__main__":
    main()
