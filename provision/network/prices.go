package network

// Prices are AWS's list for us-east-1, in USD, of 2026-11. They are for a plan that says
// about how much; what goes through a thing is said in words.
const (
	hoursOfMonth = 730

	hourOfNAT      = 0.045
	hourOfAddress  = 0.005
	hourOfEndpoint = 0.01 // in each zone

	natCost      = "0.045 USD an hour, and 0.045 USD a GB that goes through it"
	addressCost  = "0.005 USD an hour"
	endpointCost = "0.01 USD an hour in each zone, and 0.01 USD a GB that goes through it"
	flowLogCost  = "0.50 USD a GB written, 0.03 USD a GB and month kept"
	nothing      = "nothing"
)
