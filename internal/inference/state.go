package inference

// Status of a deployment, computed from what is wanted and its replicas by one function.
type Status string

// The statuses.
const (
	Stopped  Status = "stopped"  // not wanted, nothing runs
	Pending  Status = "pending"  // wanted, and no place or no files for it yet; the reason says what is missing
	Starting Status = "starting" // files are staged, the process begins, or weights are read
	Ready    Status = "ready"    // as many replicas ready as wanted
	Degraded Status = "degraded" // some ready, fewer than wanted
	Updating Status = "updating" // a newer revision starts while an older one still serves
	Failed   Status = "failed"   // none runs and none will be tried before something changes, or the next try waits
	Deleting Status = "deleting" // replicas are being stopped, then it is gone
)

// ReplicaState is where a replica is in its life.
type ReplicaState string

// The states of a replica.
const (
	RPending  ReplicaState = "pending"  // wanted, not placed: memory, files or a back-off is waited for
	RFitting  ReplicaState = "fitting"  // files are made available, need is computed
	RStarting ReplicaState = "starting" // process or upstream check begun
	RLoading  ReplicaState = "loading"  // the engine reads weights
	RReady    ReplicaState = "ready"    // healthy, proved ours, smoke request right
	RDraining ReplicaState = "draining" // no new requests; running ones end
	RStopped  ReplicaState = "stopped"  // final for this attempt, by will
	RFailed   ReplicaState = "failed"   // final for this attempt; the next one waits for back-off, or for a change after crash_loop
)
