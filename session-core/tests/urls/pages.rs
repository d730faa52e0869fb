//! Pages that are rewritten as they go by.
