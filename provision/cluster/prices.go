package cluster

// monthlyOf is what an instance of a type costs in 730 hours, in USD: on demand, Linux,
// us-east-1, AWS's list of 2026-11. 0 for a type that is not in it: the plan says how
// many there are of it.
func monthlyOf(instance string) float64 { return 730 * hourly[instance] }

var hourly = map[string]float64{
	"t3.large": 0.0832, "t3.xlarge": 0.1664, "t3.2xlarge": 0.3328,
	"m5.large": 0.096, "m5.xlarge": 0.192, "m5.2xlarge": 0.384, "m5.4xlarge": 0.768,
	"m6i.large": 0.096, "m6i.xlarge": 0.192, "m6i.2xlarge": 0.384, "m6i.4xlarge": 0.768,
	"m6g.large": 0.077, "m6g.xlarge": 0.154, "m6g.2xlarge": 0.308,
	"m7i.large": 0.1008, "m7i.xlarge": 0.2016, "m7i.2xlarge": 0.4032,
	"m7g.large": 0.0816, "m7g.xlarge": 0.1632, "m7g.2xlarge": 0.3264,
	"c6i.xlarge": 0.17, "c6i.2xlarge": 0.34, "r6i.xlarge": 0.252, "r6i.2xlarge": 0.504,
}
