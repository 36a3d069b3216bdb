"""The ground floor: files, locks, pictures; it knows nothing of the other rooms."""
