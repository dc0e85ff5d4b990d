#include "textflag.h"

// func rawVfork(nr, a1, a2 uintptr) (r1 uintptr, errno syscall.Errno)
// The return address is in a register, R30, as it is.
TEXT ·rawVfork(SB), NOSPLIT|NOFRAME, $0-40
	MOVD nr+0(FP), R8
	MOVD a1+8(FP), R0
	MOVD a2+16(FP), R1
	SVC
	CMN  $4095, R0
	BCS  failed
	MOVD R0, r1+24(FP)
	MOVD ZR, errno+32(FP)
	RET

failed:
	NEG  R0, R0
	MOVD ZR, r1+24(FP)
	MOVD R0, errno+32(FP)
	RET
