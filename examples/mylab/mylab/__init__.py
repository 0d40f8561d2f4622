"""Parts of a lab's own for Unmask: nothing in Unmask's sources knows of them."""
