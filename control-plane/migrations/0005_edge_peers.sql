-- Where other edges reach an edge, and the SHA-256 (hexadecimal) of the certificate that it presents to them; empty:
-- they cannot.
ALTER TABLE edges ADD COLUMN peer_address TEXT NOT NULL DEFAULT '';
ALTER TABLE edges ADD COLUMN peer_certificate TEXT NOT NULL DEFAULT '';
