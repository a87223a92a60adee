"""The pretend cluster: real cores, and fakes of everything around them."""
