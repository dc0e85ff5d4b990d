// Package nearest finds the word that somebody who misspelt one probably meant,
// for the hint "did you mean …?". Start with Of.
package nearest

import (
	"math"
	"strings"
)

// maxWord bounds what is compared: a longer word is none of ours, whatever is
// behind that.
const maxWord = 64

// Of returns the word that the fewest letters to insert, remove or replace lead to,
// whatever their case; of several the first. It is empty only where there are no
// words: for a short list it is always worth saying.
func Of(word string, words []string) string {
	return Within(word, words, math.MaxInt-1)
}

// Within is Of, and empty where more than most letters would have to be changed: for
// a long list, of which some word is always like the given one by chance.
func Within(word string, words []string, most int) string {
	best, least := "", most+1
	word = fold(word)
	for _, candidate := range words {
		if d := distance(word, fold(candidate), least); d < least {
			best, least = candidate, d
		}
	}
	return best
}

func fold(word string) string {
	return strings.ToLower(word[:min(len(word), maxWord)])
}

// distance is Levenshtein's; limit, where it is that or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], changed
		}
	}
	return min(row[len(b)], limit)
}
