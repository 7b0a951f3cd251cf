BEGIN TRANSACTION;
CREATE TABLE metrics (
	run INTEGER NOT NULL, 
	"row" INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value FLOAT, 
	epoch FLOAT NOT NULL, 
	step INTEGER NOT NULL, 
	PRIMARY KEY (run, "row"), 
	FOREIGN KEY(run) REFERENCES runs (number) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES(1,0,'train/loss',0.5,1.0,9);
INSERT INTO "metrics" VALUES(1,1,'val/auroc/Edema',0.6,1.0,9);
INSERT INTO "metrics" VALUES(1,2,'val/auroc',0.6,1.0,9);
INSERT INTO "metrics" VALUES(1,3,'train/loss',0.4,2.0,19);
INSERT INTO "metrics" VALUES(1,4,'val/auroc/Edema',0.6,2.0,19);
INSERT INTO "metrics" VALUES(1,5,'val/auroc',0.65,2.0,19);
INSERT INTO "metrics" VALUES(1,6,'train/loss',0.3,3.0,29);
INSERT INTO "metrics" VALUES(1,7,'val/auroc/Edema',0.6,3.0,29);
INSERT INTO "metrics" VALUES(1,8,'val/auroc',0.7,3.0,29);
INSERT INTO "metrics" VALUES(1,9,'val/loss',NULL,3.0,29);
CREATE TABLE runs (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR(16) NOT NULL, 
	name TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	place INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	finished_at FLOAT, 
	progress FLOAT, 
	phase TEXT, 
	seconds_left FLOAT, 
	seconds FLOAT, 
	best_auroc FLOAT, 
	last_auroc FLOAT, 
	trainable INTEGER, 
	total INTEGER, 
	device TEXT, 
	scores JSON, 
	environment JSON, 
	failure_kind TEXT, 
	failure_reason TEXT, 
	failure_remedy TEXT, 
	traceback TEXT, 
	attempts INTEGER NOT NULL, 
	host TEXT, 
	pid INTEGER, 
	process TEXT, 
	heartbeat_at FLOAT, 
	stop_requested BOOLEAN NOT NULL, 
	UNIQUE (id)
);
INSERT INTO "runs" VALUES(1,'5b3e54a8','completed','{"data":{"name":"phantom-5","root":null,"split":null,"label_fraction":0.1,"subset_seed":null},"model":{"backbone":"embedded-mae","weights":null,"pretrained":true,"input_size":null},"adapter":{"method":"lora","rank":8,"alpha":32.0,"dropout":null,"targets":"qv"},"train":{"epochs":6,"batch_size":16,"optimizer":"adamw","lr":null,"min_lr":1e-6,"weight_decay":null,"momentum":0.9,"layer_decay":null,"warmup_epochs":null,"drop_path":0.1,"augmentation":null,"seed":0,"device":"auto","precision":"auto"}}','75ce62068a37d123','completed',1,1.79562055183593153955e+09,1.79562055186638808252e+09,1.79562055189114665992e+09,1.0,NULL,NULL,2.47585773468017578125e-02,0.7,0.7,10,100,'cpu','{"test": {"auroc": 0.71, "per_finding": {"Edema": 0.71}, "studies": 20}}','{"python": "3.11.2", "commit": "2a271fd", "command": ["core", "work", "5b3e54a8"]}',NULL,NULL,NULL,NULL,1,'elsewhere',4711,'1f2e3d4c:123456',1.79562055186638808252e+09,0);
INSERT INTO "runs" VALUES(2,'1bfc0674','queued first','{"data":{"name":"phantom-14","root":null,"split":null,"label_fraction":0.1,"subset_seed":null},"model":{"backbone":"embedded-mae","weights":null,"pretrained":true,"input_size":null},"adapter":{"method":"lora","rank":4,"alpha":32.0,"dropout":null,"targets":"qv"},"train":{"epochs":6,"batch_size":16,"optimizer":"adamw","lr":null,"min_lr":1e-6,"weight_decay":null,"momentum":0.9,"layer_decay":null,"warmup_epochs":null,"drop_path":0.1,"augmentation":null,"seed":0,"device":"auto","precision":"auto"}}','9cd8aa1d848037f7','queued',2,1.79562055189251708981e+09,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(3,'f77ea631','queued second','{"data":{"name":"phantom-14","root":null,"split":null,"label_fraction":0.1,"subset_seed":null},"model":{"backbone":"embedded-mae","weights":null,"pretrained":true,"input_size":null},"adapter":{"method":"full","rank":4,"alpha":32.0,"dropout":null,"targets":"qv"},"train":{"epochs":6,"batch_size":16,"optimizer":"adamw","lr":null,"min_lr":1e-6,"weight_decay":null,"momentum":0.9,"layer_decay":null,"warmup_epochs":null,"drop_path":0.1,"augmentation":null,"seed":0,"device":"auto","precision":"auto"}}','eec1b4b390103964','queued',3,1.79562055190050268169e+09,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0);
INSERT INTO "runs" VALUES(4,'557aa86d','failed','{"data":{"name":"phantom-14","root":null,"split":null,"label_fraction":0.1,"subset_seed":null},"model":{"backbone":"embedded-mae","weights":null,"pretrained":true,"input_size":null},"adapter":{"method":"lora","rank":4,"alpha":32.0,"dropout":null,"targets":"qv"},"train":{"epochs":6,"batch_size":16,"optimizer":"adamw","lr":null,"min_lr":1e-6,"weight_decay":null,"momentum":0.9,"layer_decay":null,"warmup_epochs":null,"drop_path":0.1,"augmentation":null,"seed":0,"device":"auto","precision":"auto"}}','9cd8aa1d848037f7','failed',4,1.79562055191135311132e+09,1.79562055192195487024e+09,1.79562055192292737955e+09,NULL,NULL,NULL,9.725093841552734375e-04,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'unexpected','Something unforeseen went wrong: ZeroDivisionError','Mend it.','Traceback …',1,NULL,NULL,NULL,1.79562055192195487024e+09,0);
INSERT INTO "runs" VALUES(5,'34db2cc0','stopped','{"data":{"name":"phantom-14","root":null,"split":null,"label_fraction":0.1,"subset_seed":null},"model":{"backbone":"embedded-mae","weights":null,"pretrained":true,"input_size":null},"adapter":{"method":"lora","rank":4,"alpha":32.0,"dropout":null,"targets":"qv"},"train":{"epochs":6,"batch_size":16,"optimizer":"adamw","lr":null,"min_lr":1e-6,"weight_decay":null,"momentum":0.9,"layer_decay":null,"warmup_epochs":null,"drop_path":0.1,"augmentation":null,"seed":0,"device":"auto","precision":"auto"}}','9cd8aa1d848037f7','stopped',5,1.79562055192384982102e+09,NULL,1.79562055192479109759e+09,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0);
CREATE TABLE store (
	version INTEGER NOT NULL, 
	changes INTEGER NOT NULL
);
INSERT INTO "store" VALUES(1,17);
CREATE INDEX ix_runs_name ON runs (name);
CREATE INDEX ix_runs_state ON runs (state);
CREATE INDEX metrics_by_name ON metrics (run, name, "row");
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',5);
COMMIT;
