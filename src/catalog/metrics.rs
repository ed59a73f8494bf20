//! What this part counts.
