"""`python -m nextmv_exporter` is `nextmv-exporter`."""

from nextmv_exporter.cli import main

if __name__ == "__main__":
    main()
