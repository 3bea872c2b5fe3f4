"""What TensorTime costs beside what a user would pick instead. `make bench`; nothing here is a test."""
