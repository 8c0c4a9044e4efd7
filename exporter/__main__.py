"""`python -m exporter` is `r2-exporter`."""

from exporter.cli import main

if __name__ == "__main__":
    main()
