package user

// How a person proved who they are: names of RFC 8176 (claim amr of access tokens), and fed for another provider's word.
const (
	methodPassword = "pwd"
	methodCode     = "otp"
	methodRecovery = "recovery"
	methodPasskey  = "hwk"
	methodProvider = "fed"
	methodMFA      = "mfa" // more than one of them
)
