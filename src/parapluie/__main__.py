"""`python -m parapluie`: the command `parapluie`."""

from parapluie.cli import main

if __name__ == "__main__":
    main()
