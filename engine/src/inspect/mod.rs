//! Looking at a data directory that no engine has open.
