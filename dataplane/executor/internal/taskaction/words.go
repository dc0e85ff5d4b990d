package taskaction

import "strconv"

func decimal(n int32) string { return strconv.Itoa(int(n)) }

func plural(n int32, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return decimal(n) + " " + noun + "s"
}
