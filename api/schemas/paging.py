"""What all listings in pages have."""

from pydantic import Field

NEXT_PAGE = Field(description="Ask with page_token=this for the next page; null on the last.")
