"""Work on hosts over SSH, done from the client: reach them, look, install, remove."""
