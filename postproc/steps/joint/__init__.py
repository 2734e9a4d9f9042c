"""Joint clustering of voices and faces into identities: PLDA, Gibbs sampling and the step that uses them."""
