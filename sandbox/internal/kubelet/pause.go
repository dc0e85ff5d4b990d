package kubelet

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// pause is the machine code of a program that lets the kernel bury its children
// and waits for SIGINT or SIGTERM. It is written out because the image has to be
// made where there is neither a compiler nor a registry, and because a copy of
// this executable would cost every pod 40 MiB. In C:
//
//	struct sigaction ignore = { SIG_IGN };
//	unsigned long signals = 1<<(SIGINT-1) | 1<<(SIGTERM-1);
//	sigaction(SIGCHLD, &ignore, 0);
//	sigprocmask(SIG_BLOCK, &signals, 0);
//	sigtimedwait(&signals, 0, 0);
//	exit(0);
var pause = map[string]struct {
	machine uint16 // of ELF
	code    []byte
}{
	"amd64": {62, []byte{
		0x48, 0x83, 0xec, 0x40, // sub rsp, 64
		0x31, 0xc0, // xor eax, eax
		0x48, 0x89, 0xe7, // mov rdi, rsp
		0xb9, 0x08, 0x00, 0x00, 0x00, // mov ecx, 8
		0xf3, 0x48, 0xab, // rep stosq
		0xc6, 0x04, 0x24, 0x01, // mov byte [rsp], 1: SIG_IGN
		0xbf, 0x11, 0x00, 0x00, 0x00, // mov edi, 17: SIGCHLD
		0x48, 0x89, 0xe6, // mov rsi, rsp
		0x31, 0xd2, // xor edx, edx
		0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8
		0xb8, 0x0d, 0x00, 0x00, 0x00, // mov eax, 13: rt_sigaction
		0x0f, 0x05, // syscall
		0x48, 0xc7, 0x04, 0x24, 0x02, 0x40, 0x00, 0x00, // mov qword [rsp], 0x4002
		0x31, 0xff, // xor edi, edi: SIG_BLOCK
		0x48, 0x89, 0xe6, // mov rsi, rsp
		0x31, 0xd2, // xor edx, edx
		0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8
		0xb8, 0x0e, 0x00, 0x00, 0x00, // mov eax, 14: rt_sigprocmask
		0x0f, 0x05, // syscall
		0x48, 0x89, 0xe7, // mov rdi, rsp
		0x31, 0xf6, // xor esi, esi
		0x31, 0xd2, // xor edx, edx
		0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8
		0xb8, 0x80, 0x00, 0x00, 0x00, // mov eax, 128: rt_sigtimedwait
		0x0f, 0x05, // syscall
		0x31, 0xff, // xor edi, edi
		0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60: exit
		0x0f, 0x05, // syscall
	}},
	"arm64": {183, words(
		0xd10103ff, // sub sp, sp, #64
		0xa9007fff, // stp xzr, xzr, [sp]
		0xa9017fff, // stp xzr, xzr, [sp, #16]
		0xd2800020, // mov x0, #1: SIG_IGN
		0xf90003e0, // str x0, [sp]
		0xd2800220, // mov x0, #17: SIGCHLD
		0x910003e1, // mov x1, sp
		0xd2800002, // mov x2, #0
		0xd2800103, // mov x3, #8
		0xd28010c8, // mov x8, #134: rt_sigaction
		0xd4000001, // svc #0
		0xd2880040, // mov x0, #0x4002
		0xf90003e0, // str x0, [sp]
		0xd2800000, // mov x0, #0: SIG_BLOCK
		0x910003e1, // mov x1, sp
		0xd2800002, // mov x2, #0
		0xd2800103, // mov x3, #8
		0xd28010e8, // mov x8, #135: rt_sigprocmask
		0xd4000001, // svc #0
		0x910003e0, // mov x0, sp
		0xd2800001, // mov x1, #0
		0xd2800002, // mov x2, #0
		0xd2800103, // mov x3, #8
		0xd2801128, // mov x8, #137: rt_sigtimedwait
		0xd4000001, // svc #0
		0xd2800000, // mov x0, #0
		0xd2800ba8, // mov x8, #93: exit
		0xd4000001, // svc #0
	)},
}

func words(ws ...uint32) []byte {
	var out []byte
	for _, w := range ws {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

// pauseProgram is an ELF file of one segment that holds the code.
func pauseProgram(arch string) ([]byte, error) {
	p, ok := pause[arch]
	if !ok {
		return nil, fmt.Errorf("there is no pause program for %s, only for amd64 and arm64", arch)
	}
	const base, headers = 0x400000, 64 + 56
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2) // executable
	b = le.AppendUint16(b, p.machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+headers) // entry
	b = le.AppendUint64(b, 64)           // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	b = le.AppendUint32(b, 1) // load
	b = le.AppendUint32(b, 5) // readable, executable
	size := uint64(headers + len(p.code))
	for _, n := range []uint64{0, base, base, size, size, 0x10000} {
		b = le.AppendUint64(b, n)
	}
	return append(b, p.code...), nil
}

func pauseImage() (v1.Image, error) {
	program, err := pauseProgram(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "pause", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config.Entrypoint = "linux", runtime.GOARCH, []string{"/pause"}
	return mutate.ConfigFile(image, config)
}
