# hashicorp/google as infra/check holds the files against: its schema comes from the bindings of provider 8.7.0.
terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7.0"
    }
  }

  # The state lies in a bucket that is made by hand, once: terraform init -backend-config=bucket=NAME
  backend "gcs" {
    prefix = "bertline"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  # The budget's API wants the project that pays for the call.
  billing_project       = var.project
  user_project_override = true

  default_labels = {
    application = "bertline"
  }
}

data "google_project" "this" {
  project_id = var.project
}
