"""The explorer's pages, one file each; none imports another."""
