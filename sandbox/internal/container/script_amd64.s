#include "textflag.h"

// func rawVfork(nr, a1, a2 uintptr) (r1 uintptr, errno syscall.Errno)
TEXT ·rawVfork(SB), NOSPLIT|NOFRAME, $0-40
	MOVQ nr+0(FP), AX
	MOVQ a1+8(FP), DI
	MOVQ a2+16(FP), SI
	POPQ R12
	SYSCALL
	PUSHQ R12
	CMPQ AX, $0xfffffffffffff001
	JCC  failed
	MOVQ AX, r1+24(FP)
	MOVQ $0, errno+32(FP)
	RET

failed:
	NEGQ AX
	MOVQ $0, r1+24(FP)
	MOVQ AX, errno+32(FP)
	RET
