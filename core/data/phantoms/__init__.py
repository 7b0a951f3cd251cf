"""Generated radiographs with known findings, masks and boxes."""
