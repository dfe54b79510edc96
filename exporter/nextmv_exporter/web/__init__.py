"""What the program serves over HTTP, and how."""
