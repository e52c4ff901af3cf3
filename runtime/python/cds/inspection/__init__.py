"""What is in files of archives and images, and whether it is still true."""
