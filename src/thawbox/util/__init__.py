"""Small helpers that several packages use. They import nothing else of Thawbox."""
