"""Files that several processes share: written whole, for their owner only, and locks between them. Standard library only."""
