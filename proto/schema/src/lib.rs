//! What resource files may hold, told from the contract: documentation, JSON Schema and the short words of enums.
//! It reads descriptors and knows no files, no network and no terminal.
