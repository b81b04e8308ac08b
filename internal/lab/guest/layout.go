package guest

import "path"

// KitDir is where the agent unpacks the kit in dom0.
const KitDir = "/lab"

// The kit's files, relative to [KitDir].
const Initrd = "guest/initrd.img"

// ImageCompiler is the image of a guest with a C compiler: gcc, as and the C
// library's headers, and in /usr/src the source of a library to compile. It
// needs 256 MiB of memory.
const ImageCompiler = "compiler"

// DeviceModel is the program in dom0 that is an HVM guest's PC, where Debian's
// toolstack looks for it.
const DeviceModel = "/usr/libexec/xen-qemu-system-i386"

// KernelFull names dom0's kernel, not one of those for clouds, among the kit's.
// It is at hand where Xen enforces a policy, and boots without a random address
// only.
const KernelFull = "full"

// InitrdFile is the initramfs of an image; the empty name is [Initrd].
func InitrdFile(image string) string {
	if image == "" {
		return Initrd
	}
	return path.Join("guest/image", image+".img")
}

// KernelFile is a kernel as the distribution made it, for direct boot.
func KernelFile(kernel string) string { return path.Join("guest", kernel, "vmlinuz") }

// KASLRFile is the same kernel and [Initrd] behind a boot loader that lets the
// kernel randomize itself. Its command line is a placeholder.
func KASLRFile(kernel string) string { return path.Join("guest", kernel, "kaslr.bin") }

// CmdlineRoom is the longest kernel command line in bytes.
const CmdlineRoom = 512

// placeholderHead begins the placeholder for the kernel's command line in a
// [KASLRFile].
const placeholderHead = "govmi-kernel-command-line"

// Placeholder stands for the command line in a [KASLRFile]; it is replaced by
// one of the same length, padded with spaces, when the guest is started. The
// boot loader's image is built on the host, where its tools are, and does not
// take a command line from the toolstack.
func Placeholder() []byte {
	b := make([]byte, CmdlineRoom)
	for i := copy(b, placeholderHead); i < len(b); i++ {
		b[i] = '.'
	}
	return b
}
