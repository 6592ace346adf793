-- Another edge of the same fleet is a sibling.
ALTER TABLE edges RENAME COLUMN peer_address TO sibling_address;
ALTER TABLE edges RENAME COLUMN peer_certificate TO sibling_certificate;
