"""A protocol: several methods on folds, languages and seeds, refined in several ways, in one table."""
