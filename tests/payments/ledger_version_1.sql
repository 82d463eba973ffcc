BEGIN TRANSACTION;
CREATE TABLE accounts (
	fingerprint VARCHAR NOT NULL, 
	base_url VARCHAR NOT NULL, 
	account VARCHAR NOT NULL, 
	PRIMARY KEY (fingerprint, base_url)
);
INSERT INTO "accounts" VALUES('0123456789abcdef','https://api.example.com','org:one');
CREATE TABLE entries (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	account VARCHAR NOT NULL, 
	base_url VARCHAR NOT NULL, 
	tool VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	body_digest VARCHAR NOT NULL, 
	sent_digest VARCHAR, 
	digest_version INTEGER NOT NULL, 
	take INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	idempotency_key VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	summary VARCHAR NOT NULL, 
	extras JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	owner VARCHAR NOT NULL, 
	leased_until DOUBLE NOT NULL, 
	estimate_usd BIGINT, 
	counted_usd BIGINT NOT NULL, 
	cost_usd BIGINT, 
	charged VARCHAR NOT NULL, 
	generation_id VARCHAR, 
	named_id VARCHAR, 
	was_found BOOLEAN NOT NULL, 
	assets JSON NOT NULL, 
	status VARCHAR, 
	error_code VARCHAR, 
	created_at DOUBLE NOT NULL, 
	first_sent_at DOUBLE NOT NULL, 
	settled_at DOUBLE, 
	UNIQUE (digest, attempt)
);
INSERT INTO "entries" VALUES(1,'org:one','https://api.example.com','create_generation','fc0e1818f2cb4307c3e85da1932e992752d14dc85a6be97513ed6e9f4c19bfa7','8070ed96447f2848cf7528ea74147ab980c4814b5aec8d5e88be65cfe71f09d9',NULL,1,1,1,'sync-mcp-8fcca32bb3ca9852be8f87b90c44fb145d3dafdbb688cfce','lipsync-2','lipsync-2: video https://h/done.mp4, audio https://h/a.wav','{}','ended','me',0.0,2000000000,1234500000,1234500000,'yes','job-done',NULL,0,'{}','COMPLETED',NULL,1789560001.0,1000.0,1789560004.0);
INSERT INTO "entries" VALUES(2,'org:one','https://api.example.com','create_generation','e2454db8b6abb3aa1031d2c8c6b9475389d2fa3e8ee7b3c2f70c18ef82009904','f59d86a7e84860f759e12ef2443bca49efa96c99188ea210ab18cdae2856c9e9',NULL,1,1,1,'sync-mcp-f3e106adca13edab9f84f98692254bf1c008793273a70c63','lipsync-2','lipsync-2: video https://h/running.mp4, audio https://h/a.wav','{}','accepted','me',0.0,500000000,500000000,NULL,'unknown','job-running',NULL,0,'{}',NULL,NULL,1789560005.0,1000.0,NULL);
INSERT INTO "entries" VALUES(3,'org:one','https://api.example.com','create_generation','7c993b39f4fc69ed963ecab94c45d0c906b27dad7c741f802447b26e2928474f','64b201d575b6156ef818e9fb7f53cd5f03a01e9daabfd8c92c0c0451aa7b37f6',NULL,1,1,1,'sync-mcp-1ca783dfff5be69ddeeffe6dd611509b1321f798d344e9a8','lipsync-2','lipsync-2: video https://h/unknown.mp4, audio https://h/a.wav','{}','unknown','me',0.0,1000000000,1000000000,NULL,'unknown',NULL,'job-named',0,'{}',NULL,NULL,1789560008.0,1000.0,NULL);
INSERT INTO "entries" VALUES(4,'org:one','https://api.example.com','create_generation','3b8684080b577b6cc102a3b390aa6e99b6e9dfc2681da161976a9ede509489b0','287c6e8751e921343d94548970526fc043ce74aba129197bbc7fb1792b378138',NULL,1,1,1,'sync-mcp-eecfc8454cde4f864bd17b89cecd33baab89d7dded27dab3','lipsync-2','lipsync-2: video https://h/refused.mp4, audio https://h/a.wav','{}','refused','me',0.0,1000000000,0,NULL,'no',NULL,NULL,0,'{}',NULL,'nope',1789560011.0,1000.0,1789560014.0);
CREATE TABLE ledger (version INTEGER NOT NULL);
INSERT INTO "ledger" VALUES(1);
CREATE TABLE quotes (
	id VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	price_usd BIGINT, 
	made_at DOUBLE NOT NULL, 
	made_at_by_clock DOUBLE NOT NULL, 
	used_at DOUBLE, 
	PRIMARY KEY (id)
);
INSERT INTO "quotes" VALUES('q_fixed0quote1','780f32c5e446eb1b2e2b5f238b1d895c834655b13080c569c7493c3b7e67f573',1,750000000,1789560019.0,1789560020.0,NULL);
CREATE INDEX entries_by_account ON entries (account, base_url, created_at);
CREATE INDEX ix_entries_sent_digest ON entries (sent_digest);
CREATE INDEX ix_entries_body_digest ON entries (body_digest);
CREATE INDEX entries_by_generation ON entries (generation_id);
CREATE INDEX ix_entries_state ON entries (state);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('entries',5);
COMMIT;
