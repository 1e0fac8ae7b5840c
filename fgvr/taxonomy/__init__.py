"""What a name is: the tree of classes, and how names are written and compared."""
