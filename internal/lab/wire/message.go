package wire

// Message is one frame's content; the concrete types of this file are all of
// them, and [Decoder.Decode] returns pointers to them.
type Message interface {
	// Kind is the frame's name on the wire.
	Kind() string
}

// Run asks the agent to run one job. Host to agent.
type Run struct {
	// ID names the job in all other frames.
	ID uint64 `json:"id"`
	// Length is the job tar's size in bytes on the job disk, from
	// [DiskDataOffset] on; 0 means a job without files.
	Length int64 `json:"length"`
	// Sum is the job tar's checksum, see [NewSum].
	Sum uint32 `json:"sum,omitempty"`
	// Argv is the command; Argv[0] is looked up in PATH unless it holds a
	// slash, relative to Dir.
	Argv []string `json:"argv"`
	// Env is added to the agent's environment, as KEY=VALUE.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory, relative to the job's own directory.
	Dir string `json:"dir,omitempty"`
	// TimeoutMillis kills the job after so many milliseconds of dom0's
	// clock; 0 means none.
	TimeoutMillis int64 `json:"timeout_ms,omitempty"`
	// Live streams output in Out frames besides capturing it.
	Live bool `json:"live,omitempty"`
	// TTY runs the job on a pseudo terminal: output is Live on descriptor 1
	// and not captured, input comes from Stdin frames.
	TTY bool `json:"tty,omitempty"`
	// Stdin gives the job a pipe that Stdin frames feed; otherwise (and
	// without TTY) its standard input is empty.
	Stdin bool `json:"stdin,omitempty"`
	// Rows and Cols are the terminal's first size.
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
	// AllowGuestPanic lets the job go on when a guest's kernel panics; the
	// panic is reported all the same.
	AllowGuestPanic bool `json:"allow_guest_panic,omitempty"`
}

// Stdin carries input for the job; empty data closes its standard input (for a
// terminal job: is ignored). Host to agent.
type Stdin struct {
	ID   uint64 `json:"id"`
	Data []byte `json:"data"`
}

// Signal sends a signal to the job's process group. Host to agent.
type Signal struct {
	ID    uint64 `json:"id"`
	Signo int    `json:"signo"`
}

// WinSize resizes the job's terminal. Host to agent.
type WinSize struct {
	ID   uint64 `json:"id"`
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// PowerOff ends dom0 and with it the machine. Host to agent.
type PowerOff struct{}

// Hello is the agent's first frame: dom0 is up and jobs are welcome.
type Hello struct {
	Version int `json:"version"`
	// Xen is the hypervisor's version as "4.17.5", Kernel dom0's release.
	Xen    string `json:"xen,omitempty"`
	Kernel string `json:"kernel,omitempty"`
}

// Progress says what dom0 is doing, for a person who waits. Agent to host.
type Progress struct {
	Text string `json:"text"`
}

// Alive says that dom0 and the agent live, several times a minute of dom0's
// clock while a job runs: a silent job is not a dead machine. Agent to host.
type Alive struct {
	ID uint64 `json:"id"`
}

// Out is a piece of the job's output. Agent to host.
type Out struct {
	ID uint64 `json:"id"`
	// FD is 1 or 2.
	FD   int    `json:"fd"`
	Data []byte `json:"data"`
}

// Done ends a job; without it no job has succeeded. Agent to host.
type Done struct {
	ID uint64 `json:"id"`
	// Exit is the command's exit status, -1 if it has none.
	Exit int `json:"exit"`
	// Signal is the number of the signal that killed it, or 0.
	Signal int `json:"signal,omitempty"`
	// Error says why the job failed for a reason of the lab's: it could not
	// be unpacked or started, its time was up, a guest panicked, its result
	// does not fit. A job with an Error has failed whatever Exit says.
	Error string `json:"error,omitempty"`
	// TimedOut says that the Error is Run.TimeoutMillis having passed.
	TimedOut bool `json:"timed_out,omitempty"`
	// Length and Sum describe the result tar on the result disk, from
	// [DiskDataOffset] on. Length 0 means that there is none.
	Length int64  `json:"length,omitempty"`
	Sum    uint32 `json:"sum,omitempty"`
	// DroppedOut counts output bytes that were captured but not streamed,
	// the stream's rate being bounded.
	DroppedOut int64 `json:"dropped_out,omitempty"`
}

// OK reports whether the job ran to its end with exit status 0.
func (d *Done) OK() bool { return d.Exit == 0 && d.Signal == 0 && d.Error == "" }

// GuestPanic reports a kernel panic on a guest's console. Agent to host.
type GuestPanic struct {
	// ID is the job that was running, 0 if none was.
	ID uint64 `json:"id,omitempty"`
	// Domain is the guest's name, Tail the console's last lines.
	Domain string `json:"domain"`
	Tail   string `json:"tail"`
}

func (*Run) Kind() string        { return "run" }
func (*Stdin) Kind() string      { return "stdin" }
func (*Signal) Kind() string     { return "signal" }
func (*WinSize) Kind() string    { return "winsize" }
func (*PowerOff) Kind() string   { return "poweroff" }
func (*Hello) Kind() string      { return "hello" }
func (*Progress) Kind() string   { return "progress" }
func (*Alive) Kind() string      { return "alive" }
func (*Out) Kind() string        { return "out" }
func (*Done) Kind() string       { return "done" }
func (*GuestPanic) Kind() string { return "guestpanic" }

func newMessage(kind string) Message {
	switch kind {
	case "run":
		return new(Run)
	case "stdin":
		return new(Stdin)
	case "signal":
		return new(Signal)
	case "winsize":
		return new(WinSize)
	case "poweroff":
		return new(PowerOff)
	case "hello":
		return new(Hello)
	case "progress":
		return new(Progress)
	case "alive":
		return new(Alive)
	case "out":
		return new(Out)
	case "done":
		return new(Done)
	case "guestpanic":
		return new(GuestPanic)
	}
	return nil
}
