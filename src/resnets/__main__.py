"""`python -m resnets` is the command line."""

from resnets.cli import program

if __name__ == "__main__":
    program()
