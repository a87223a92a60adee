"""The roles behind sockets: scheduler, nanny and worker, each around its core."""
