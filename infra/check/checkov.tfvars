# What checkov is shown: everything that terraform could make.
project         = "my-project"
cluster         = true
administrators  = { "203.0.113.0/24" = "office" }
submitters      = ["group:ml-team@example.com"]
billing_account = "012345-6789AB-CDEF01"
