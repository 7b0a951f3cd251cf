"""Help page: first steps, glossary, notebooks and how-to pages."""
