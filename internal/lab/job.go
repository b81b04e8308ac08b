package lab

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/govmi/govmi/internal/lab/wire"
)

// Job is one program to run in dom0.
type Job struct {
	// Argv is the command: a program of dom0's PATH, or a file of the job ("./x.test") relative to Dir.
	Argv []string
	// Env is added to the environment, as KEY=VALUE. $GOVMI_LAB_LANE and $GOVMI_LAB_XEN (debian, patched, or other) are there already.
	Env []string
	// Dir is the working folder, relative to the job's own folder.
	Dir string
	// Files are put into the job's own folder. The job's folder is gone after the job; what it writes into $GOVMI_LAB_OUT is brought back.
	Files []File
	// OutDir is a folder of the host for what the job brings back: stdout, stderr and out/... . Empty: only [Result] has the output.
	OutDir string
	// Timeout bounds the job in dom0's time, 0 is none. The host waits three times as long, because an emulated clock may be slow.
	Timeout time.Duration
	// Idle is how long there may be no sign of life, neither of the job nor of dom0; 0 is three minutes.
	Idle time.Duration
	// Stdout and Stderr, if not nil, get the output while the job runs. A fast job's output is not sent in full, see [Result.DroppedOut].
	Stdout, Stderr io.Writer
	// Stdin, if not nil, is sent to the job.
	Stdin io.Reader
	// TTY runs the job on a terminal of Rows by Cols; its output goes to Stdout only.
	TTY        bool
	Rows, Cols uint16
	// Control, if not nil, sends signals and sizes of the terminal to the running job.
	Control <-chan Control
	// AllowGuestPanic lets a guest's kernel panic during the job.
	AllowGuestPanic bool
}

// Control is an order for a running job.
type Control struct {
	Signal     int    // a signal for its process group, or
	Rows, Cols uint16 // the terminal's new size
}

// File is a file of a job: content from the host's file Source, or Data.
type File struct {
	Name   string // relative to the job's folder, with slashes
	Source string
	Data   []byte
	Mode   fs.FileMode // permissions; 0 is those of Source, or 0644
}

// Result is what a job that ran to its end has to say.
type Result struct {
	// Exit is the exit status, -1 if a signal ended the job; Signal is that signal's number.
	Exit, Signal int
	// Stdout and Stderr are the whole output; nil for a job on a terminal.
	Stdout, Stderr []byte
	// DroppedOut counts the bytes of output that were not sent while the job ran.
	DroppedOut int64
}

// Tree returns the files below the host's folder dir as files of a job below name.
func Tree(dir, name string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := os.Stat(p) // links bring their content
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		files = append(files, File{Name: path.Join(name, filepath.ToSlash(rel)), Source: p})
		return nil
	})
	return files, err
}

// writeJob writes the job's files to its disk and returns their tar's length and sum. A job without files has length 0.
func writeJob(disk string, files []File) (length int64, sum uint32, err error) {
	if len(files) == 0 {
		return 0, 0, nil
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	h := wire.NewSum()
	w := &bounded{w: io.MultiWriter(io.NewOffsetWriter(f, wire.DiskDataOffset), h), left: fi.Size() - wire.DiskDataOffset}
	size := w.left
	tw := tar.NewWriter(w)
	for _, file := range files {
		if err := addFile(tw, file); err != nil {
			return 0, 0, fmt.Errorf("lab: job file %s: %w", file.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return 0, 0, fmt.Errorf("lab: job files: %w", err)
	}
	return size - w.left, h.Sum32(), nil
}

// ErrTooBig reports a job whose files do not fit its disk.
var ErrTooBig = errors.New("lab: files do not fit the job disk")

type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, ErrTooBig
	}
	n, err := b.w.Write(p)
	b.left -= int64(n)
	return n, err
}

func addFile(tw *tar.Writer, file File) error {
	if !filepath.IsLocal(filepath.FromSlash(file.Name)) {
		return errors.New("leaves the job's folder")
	}
	if file.Source == "" {
		mode := file.Mode.Perm()
		if mode == 0 {
			mode = 0o644
		}
		h := &tar.Header{Name: path.Clean(file.Name), Mode: int64(mode), Size: int64(len(file.Data)), Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := tw.Write(file.Data)
		return err
	}
	f, err := os.Open(file.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	mode := file.Mode.Perm()
	if mode == 0 {
		mode = fi.Mode().Perm()
	}
	h := &tar.Header{Name: path.Clean(file.Name), Mode: int64(mode), Size: fi.Size(), Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

// maxOutput bounds what is kept of a job's standard output and error in memory.
const maxOutput = 256 << 20

// readResult reads what a job brought back.
func readResult(disk string, done *wire.Done, outDir string, res *Result) (err error) {
	if done.Length == 0 {
		return nil
	}
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	h := wire.NewSum()
	if _, err := io.Copy(h, io.NewSectionReader(f, wire.DiskDataOffset, done.Length)); err != nil {
		return fmt.Errorf("lab: result disk: %w", err)
	}
	if got := h.Sum32(); got != done.Sum {
		return fmt.Errorf("lab: result disk: checksum is %08x, announced was %08x", got, done.Sum)
	}
	tr := tar.NewReader(io.NewSectionReader(f, wire.DiskDataOffset, done.Length))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lab: result disk: %w", err)
		}
		if err := takeFile(tr, hdr, outDir, res); err != nil {
			return fmt.Errorf("lab: result %s: %w", hdr.Name, err)
		}
	}
}

func takeFile(r io.Reader, hdr *tar.Header, outDir string, res *Result) error {
	name := strings.TrimSuffix(hdr.Name, "/")
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return errors.New("leaves its folder")
	}
	if hdr.Typeflag == tar.TypeReg && (name == "stdout" || name == "stderr") {
		if hdr.Size > maxOutput {
			return fmt.Errorf("%d bytes of output, more than %d", hdr.Size, maxOutput)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if name == "stdout" {
			res.Stdout = b
		} else {
			res.Stderr = b
		}
		if outDir == "" {
			return nil
		}
		return os.WriteFile(filepath.Join(outDir, name), b, 0o644)
	}
	if outDir == "" {
		return nil
	}
	// Inside the root a hostile name or link cannot reach other files.
	root, err := os.OpenRoot(outDir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch hdr.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fs.FileMode(hdr.Mode).Perm()|0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		return root.Symlink(hdr.Linkname, name)
	}
	return nil
}
