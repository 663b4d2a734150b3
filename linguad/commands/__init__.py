"""What the `linguad` commands do, one file each; `linguad.cli` only parses arguments."""
