"""Small programs to copy from: Absum and the attack, and sigsoftmax losses, in models of the usual libraries."""
