variable "project" {
  description = "The id of the project, which exists and has billing."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "The project is its id: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Where everything lies: bucket, images, jobs, the cluster. One with the accelerators that are wanted."
  type        = string
  default     = "europe-west4"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "The region is one such as europe-west4, not a zone (europe-west4-a) and not a multi-region (eu)."
  }
}

variable "zones" {
  description = "Letters of the region's zones that have the accelerators; TPUs are in few."
  type        = list(string)
  default     = ["b"]

  validation {
    condition     = length(var.zones) > 0 && alltrue([for zone in var.zones : can(regex("^[a-z]$", zone))])
    error_message = "The zones are letters, such as [\"b\"]."
  }
}

variable "bucket" {
  description = "The name of the bucket of artifacts; empty: PROJECT-bertline."
  type        = string
  default     = ""

  validation {
    condition     = var.bucket == "" || can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "The bucket is a name, without gs:// and without a folder."
  }
}

variable "prefix" {
  description = "The folder of the bucket below which the store and everything else lies."
  type        = string
  default     = "bertline"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]*$", var.prefix))
    error_message = "The prefix is one folder, without slashes."
  }
}

variable "resume_days" {
  description = "Days after which what a killed step left for its next try is deleted; longer than any training rests."
  type        = number
  default     = 60

  validation {
    condition     = var.resume_days >= 14
    error_message = "At least 14 days: a training that waits for a machine goes on from these files."
  }
}

variable "undelete_days" {
  description = "Days for which a deleted or overwritten object can be had back."
  type        = number
  default     = 14

  validation {
    condition     = var.undelete_days >= 1 && var.undelete_days <= 365
    error_message = "1 to 365 days."
  }
}

variable "kms_key" {
  description = "A key of Cloud KMS for bucket, images and the cluster's secrets, which their service agents may use; empty: Google's keys."
  type        = string
  default     = ""

  validation {
    condition     = var.kms_key == "" || can(regex("^projects/.+/locations/.+/keyRings/.+/cryptoKeys/.+$", var.kms_key))
    error_message = "The key is projects/P/locations/L/keyRings/R/cryptoKeys/K."
  }
}

variable "image_version" {
  description = "The version of bertline in the images' tags."
  type        = string
  default     = "0.1.0"

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+", var.image_version))
    error_message = "A version such as 0.1.0; \"latest\" would move under a running pipeline."
  }
}

variable "submitters" {
  description = "Who may submit runs, as group:NAME@DOMAIN, user:... or serviceAccount:...; they act as bertline-submitter."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for who in var.submitters : can(regex("^(group|user|serviceAccount):[^@]+@.+$", who))])
    error_message = "Each is group:..., user:... or serviceAccount:..., never allUsers."
  }
}

variable "kubernetes_namespace" {
  description = "The namespace in which Kubeflow's pods run, as in infra/kustomize."
  type        = string
  default     = "kubeflow"
}

variable "cluster" {
  description = "Whether to make a GKE cluster for Kubeflow Pipelines; Vertex AI needs none."
  type        = bool
  default     = false
}

variable "administrators" {
  description = "Networks from which the cluster's API is reached: address range => name."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for range, _ in var.administrators : can(cidrhost(range, 0)) && range != "0.0.0.0/0"])
    error_message = "Each is an address range such as 203.0.113.0/24, and not the whole world."
  }
}

variable "data_pool" {
  description = "Nodes for the steps that compute on processors."
  type = object({
    machine_type = string
    max_nodes    = number
    spot         = bool
  })
  default = { machine_type = "n2-standard-8", max_nodes = 4, spot = true }

  validation {
    condition     = var.data_pool.max_nodes >= 1
    error_message = "max_nodes is at least 1."
  }
}

variable "gpu_pool" {
  description = "Nodes with GPUs for training; max_nodes = 0: none."
  type = object({
    machine_type = string
    accelerator  = string
    count        = number
    max_nodes    = number
    spot         = bool
  })
  default = { machine_type = "g2-standard-12", accelerator = "nvidia-l4", count = 1, max_nodes = 2, spot = true }

  validation {
    condition     = can(regex("^nvidia-", var.gpu_pool.accelerator)) && contains([1, 2, 4, 8], var.gpu_pool.count)
    error_message = "accelerator is one such as nvidia-l4, count 1, 2, 4 or 8 a node."
  }
}

variable "tpu_pool" {
  description = "TPU slices for training; max_slices = 0: none. A topology of more chips than a host has is one slice."
  type = object({
    machine_type   = string
    topology       = string
    chips_per_host = number
    max_slices     = number
    spot           = bool
  })
  default = { machine_type = "ct5lp-hightpu-4t", topology = "2x2", chips_per_host = 4, max_slices = 1, spot = true }

  validation {
    condition     = can(regex("^ct[0-9a-z]+-[a-z]+-[0-9]+t$", var.tpu_pool.machine_type))
    error_message = "machine_type is one of TPUs, such as ct5lp-hightpu-4t."
  }

  validation {
    condition     = can(regex("^[0-9]+x[0-9]+(x[0-9]+)?$", var.tpu_pool.topology))
    error_message = "topology is chips by chips, such as 2x2, 4x4 or 2x2x2."
  }

  validation {
    condition     = endswith(var.tpu_pool.machine_type, "-${var.tpu_pool.chips_per_host}t")
    error_message = "chips_per_host is the number at the end of machine_type."
  }
}

variable "billing_account" {
  description = "The billing account, for a budget; empty: none is made."
  type        = string
  default     = ""

  validation {
    condition     = var.billing_account == "" || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "The billing account is XXXXXX-XXXXXX-XXXXXX."
  }
}

variable "budget" {
  description = "What the project may cost a month, in units of the billing account's currency; mails go out at 50, 90 and 100 %."
  type        = number
  default     = 100

  validation {
    condition     = var.budget >= 1 && floor(var.budget) == var.budget
    error_message = "A whole number, at least 1."
  }
}

variable "budget_mails" {
  description = "Addresses that hear of the budget, beside the billing account's administrators."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for mail in var.budget_mails : can(regex("^[^@]+@[^@]+$", mail))])
    error_message = "Addresses of mail."
  }
}
