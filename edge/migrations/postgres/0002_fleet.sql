-- What the edges of a fleet agree upon.

-- One row, written by the first edge: tokens name every edge of the fleet and one key, so all of them must have that.
CREATE TABLE fleet (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    pin TEXT NOT NULL
);

-- Grows with every change of accounts, certificates and orders.
ALTER TABLE state ADD COLUMN certificates BIGINT NOT NULL DEFAULT 0;

-- Which edge orders a certificate now, and what the authority is to be answered meanwhile: whichever edge it asks. Who is gone has lost
-- its claim when the time is over.
CREATE TABLE claims (
    name TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT NOT NULL,
    locked_until BIGINT NOT NULL,
    -- Of HTTP-01; none with TLS-ALPN-01.
    token TEXT,
    answer TEXT
);
