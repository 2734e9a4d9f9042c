"""What the methods need to train: closed-form CCA, pseudo-identities, optimisers, and checks of steps and files."""
