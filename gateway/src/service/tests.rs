//! The service over a store in memory and a directory.
