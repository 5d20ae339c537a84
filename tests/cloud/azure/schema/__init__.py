"""What Azure's services take, read from the text of Microsoft's own Python packages, which are made from its specifications.
They are read and not imported: an import of two of them alone takes longer than all this."""
